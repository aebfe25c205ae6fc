"""What a sandboxed run costs: python -m benchmarks.sandbox"""
