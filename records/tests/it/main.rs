//! Integration tests of `records`: the typed form round-trips, the store survives what a machine does to it.

mod manifest;
mod round_trip;
mod store;
