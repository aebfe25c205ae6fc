"""Whether, when and where. Pure: time, states and sizes come in, decisions come out."""
