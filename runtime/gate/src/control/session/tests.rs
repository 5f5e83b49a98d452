//! Sessions against exact lines.
