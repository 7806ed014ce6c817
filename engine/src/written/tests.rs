//! Every type that a query can yield, in every format.
