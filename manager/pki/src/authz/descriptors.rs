//! The methods of services, read from an encoded `FileDescriptorSet` (protobuf's `descriptor.proto`): only the four
//! message types and the names needed, so that no schema crate is.

use prost::Message;

use super::AuthzError;

#[derive(Clone, PartialEq, Message)]
struct FileDescriptorSet {
    #[prost(message, repeated, tag = "1")]
    file: Vec<FileDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct FileDescriptor {
    #[prost(string, optional, tag = "2")]
    package: Option<String>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<ServiceDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<MethodDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodDescriptor {
    #[prost(string, tag = "1")]
    name: String,
}

/// The paths of all methods of `services` (full names, as tonic's `SERVICE_NAME`) in an encoded descriptor set.
///
/// # Errors
/// [`AuthzError::Descriptors`] when the set cannot be decoded, [`AuthzError::Unknown`] for services that are not in it.
pub fn method_paths(descriptor_set: &[u8], services: &[&str]) -> Result<Vec<String>, AuthzError> {
    let set = FileDescriptorSet::decode(descriptor_set).map_err(|_| AuthzError::Descriptors)?;
    let mut missing: Vec<&str> = services.to_vec();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = match file.package.as_deref() {
                None | Some("") => service.name.clone(),
                Some(package) => format!("{package}.{}", service.name),
            };
            if services.contains(&name.as_str()) {
                missing.retain(|service| *service != name);
                paths.extend(service.method.iter().map(|m| format!("/{name}/{}", m.name)));
            }
        }
    }
    if missing.is_empty() {
        Ok(paths)
    } else {
        Err(AuthzError::Unknown { paths: missing.into_iter().map(str::to_owned).collect() })
    }
}
