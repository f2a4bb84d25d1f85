//! Data sets: reading, fetching, drawing.
