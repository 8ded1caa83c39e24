//! Lines for a person.
