"""OpenAI's and Anthropic's APIs: the model `smol`, which calls the units, and providers behind it."""
