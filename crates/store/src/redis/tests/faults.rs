//! Bad days.
