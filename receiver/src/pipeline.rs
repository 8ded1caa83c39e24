//! Wires everything.
