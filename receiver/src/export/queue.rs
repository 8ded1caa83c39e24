//! The bounded queue.
