"""How fast the engines of this machine are with a model: measured in turns, recorded, and read again."""
