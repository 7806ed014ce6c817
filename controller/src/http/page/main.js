// The dashboard's entry.
