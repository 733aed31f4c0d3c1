//! Integration tests of `models`: one binary, a module per subject.

mod cache;
mod contract;
mod folding;
mod generation;
mod gradient;
mod networks;
mod numerics;
mod params;
mod parity;
mod pretrained;
mod resnet;
mod resnet_files;
