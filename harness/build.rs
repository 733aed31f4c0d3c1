//! Hands the compiler's version, target, profile and features to the program, which writes them into manifests.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=HARNESS_RUSTC={}", version.unwrap_or_default().trim());
    println!("cargo::rustc-env=HARNESS_TARGET={}", var("TARGET").unwrap_or_default());
    // `PROFILE` only tells debug from release, which is the distinction that matters for timings.
    println!("cargo::rustc-env=HARNESS_PROFILE={}", if var("PROFILE").as_deref() == Ok("release") { "release" } else { "dev" });
    println!("cargo::rustc-env=HARNESS_TARGET_FEATURES={}", var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default());
    let mut features: Vec<String> =
        std::env::vars().filter_map(|(key, _)| Some(key.strip_prefix("CARGO_FEATURE_")?.to_lowercase())).collect();
    features.sort();
    println!("cargo::rustc-env=HARNESS_FEATURES={}", features.join(","));
}
