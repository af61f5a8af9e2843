//! `venv-activate APP[:TAG] [--] COMMAND…`: see the library for all of it.

fn main() -> std::process::ExitCode {
    venv_activate::main()
}
