//! Integration tests of the program, one binary: each module is a part of it seen from outside.

mod bad_input;
mod command_line;
mod configs;
mod costs;
mod demo_world;
mod documented;
mod eval_parity;
mod evaluation;
mod gate;
mod hub;
mod image_costs;
mod image_learning;
mod layering;
mod learning;
mod measure;
mod measured;
mod own_model;
mod sandbox;
mod shards;
mod support;
mod trouble;
mod vision;
