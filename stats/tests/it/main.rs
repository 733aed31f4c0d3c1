//! Integration tests of `stats`: long-run behaviour on seeded synthetic streams, and properties that hold for any input.

mod gate;
mod properties;
mod table;
mod worlds;
