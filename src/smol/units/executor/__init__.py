"""The executor: runs programs made of calls to other units."""
