//! Compiles the `.proto` files with protox, so that no `protoc` is needed to build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["swarmnet/v1/swarmnet.proto"];
    println!("cargo::rerun-if-changed=swarmnet");
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
