//! Compiles the ONNX protobuf schema with pure-Rust tools, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx-ml.proto");
    let descriptors = protox::compile(["proto/onnx-ml.proto"], ["proto"])?;
    prost_build::Config::new()
        // Every `bytes` field becomes a slice of the mapped file instead of a copy.
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
