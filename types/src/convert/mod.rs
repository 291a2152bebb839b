//! Between the wire and these types.
