//! Tests of the kernels from outside: every operation against its composed reference, in values, gradients, layouts and threads.
mod cases;
mod cpu;
mod errors;
mod images;
mod infer;
mod numerics;
mod optimizer;
mod parity;
mod plain;
