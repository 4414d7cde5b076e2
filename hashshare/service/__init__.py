"""The use cases: each opens its transactions, and asks who may."""
