"""How good a generator is: test pictures in, figures and the protocol that gave them out."""
