//! Generates the services and messages, and the descriptor set that gRPC reflection serves.

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by its environment where to write"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("streamctl.bin"))
        .compile_protos(
            &[
                "streamctl/v1/types.proto",
                "streamctl/v1/explain.proto",
                "streamctl/v1/jobs.proto",
                "streamctl/v1/workers.proto",
                "externalscaler/externalscaler.proto",
            ],
            &["."],
        )?;
    Ok(())
}
