"""The Bigram tab: one table, learned and counted."""
