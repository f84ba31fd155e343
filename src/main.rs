//! The binary: everything is in the library.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Events make many short-lived allocations on one thread and drop them on another, which is where glibc's allocator lets memory grow.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    larum::cli::main(larum::cli::args::Cli::parse())
}
