//! Integration tests of the crate: pixels against Pillow's.

mod damage;
mod pillow;
