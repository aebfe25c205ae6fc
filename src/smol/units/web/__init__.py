"""The web page: three static files, and what may be done with them."""
