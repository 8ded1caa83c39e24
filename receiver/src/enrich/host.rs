//! This host and this program as resources.
