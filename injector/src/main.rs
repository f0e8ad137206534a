//! injector: delays, fails or flags the network sends of chosen processes, and
//! shows what it did.

mod cli;
mod clock;
mod daemon;
mod explain;
mod go;
mod kernel;
mod output;
mod plan;
mod recording;
mod sleeper;
mod stream;
mod target;

fn main() -> std::process::ExitCode {
    cli::main()
}
