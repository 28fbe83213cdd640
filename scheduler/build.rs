//! Makes Rust of KEDA's interface, without an installed `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/externalscaler.proto";
    println!("cargo::rerun-if-changed={proto}");
    let files = protox::compile([proto], ["proto"])?;
    tonic_prost_build::configure()
        // Tests are the only clients here.
        .build_client(true)
        .compile_fds(files)?;
    Ok(())
}
