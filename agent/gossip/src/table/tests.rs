//! The table of members: who wins, what is refused, what is told.
