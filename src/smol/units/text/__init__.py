"""The unit `text`: what can be told of texts without a language model."""
