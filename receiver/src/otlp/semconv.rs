//! Every name that leaves the program.
