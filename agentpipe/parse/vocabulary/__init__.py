"""What all adapters say alike: calls and results, texts, plans, files, tokens, ends.

The rule this room keeps: the same act gives the same event whatever the agent. An adapter decides what a line means;
how that is told, paired, cut and counted is decided here, once.
"""
