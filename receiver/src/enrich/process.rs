//! Processes by pid.
