//! Generates the crate's code from the .proto files, with a compiler written in Rust: no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "apportion/v1/common.proto",
    "apportion/v1/scheduler.proto",
    "apportion/v1/agent.proto",
    "apportion/v1/executor.proto",
    "apportion/v1/operator.proto",
    "apportion/v1/sandbox.proto",
    "apportion/v1/checkpoint.proto",
    "apportion/v1/journal.proto",
    "apportion/v1/registry.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=apportion");
    let rpc = env::var_os("CARGO_FEATURE_RPC").is_some();
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(rpc)
        .build_server(rpc)
        // Its `connect` would clash with the services' own call of that name: clients are made from a channel.
        .build_transport(false)
        .bytes(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
