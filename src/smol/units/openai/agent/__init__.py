"""Operations as tools of a provider's model: the loop, written once, and a dialect for each wire."""
