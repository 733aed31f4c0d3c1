//! The program `harness`: a command line over the library of the same name. Everything is in [`harness::cli`].

fn main() -> std::process::ExitCode {
    // Before any thread exists: candle keeps a spinning pool of its own, which would compete with the kernels' pool for the same cores.
    kernels::cpu::stop_candle_threads();
    harness::cli::main()
}
