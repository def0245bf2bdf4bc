//! What a new cluster is to be, from what the operator asks for.

use std::time::Duration;

use swarmnet_agent::paths::Paths;
use swarmnet_manager::{CERT_EXPIRY_MIN, InitConfig};
use swarmnet_proto::v1;
use swarmnet_types::{Availability, Subnet};

use super::membership::host_routes;
use super::place::Place;
use crate::error::CliError;

const DATA_PATH_PORT: u16 = 4789;
const POOL_MASK_LEN: u32 = 24;
const CERT_EXPIRY: Duration = Duration::from_hours(90 * 24);

pub(super) fn init_config(
    request: &v1::InitRequest,
    place: &Place,
    paths: &Paths,
) -> Result<InitConfig, CliError> {
    let port = match request.data_path_port {
        0 => DATA_PATH_PORT,
        // sw:M9
        n => u16::try_from(n).ok().filter(|p| (1024..=49151).contains(p)).ok_or_else(|| {
            CliError::failure(format!(
                "Datapath port number is not in valid range (1024-49151) : {n}"
            ))
        })?,
    };
    let cert_expiry = match request.cert_expiry_s {
        0 => CERT_EXPIRY,
        s => Duration::from_secs(s),
    };
    if cert_expiry < CERT_EXPIRY_MIN {
        return Err(CliError::failure("minimum certificate expiry time is: 1h0m0s"));
    }
    let mask = match request.default_pool_mask_len {
        0 => POOL_MASK_LEN,
        n => n,
    };
    // sw:M10
    if mask > 29 {
        return Err(CliError::failure(format!("subnet size is out of range: {mask}")));
    }
    let mut pools = Vec::new();
    for text in &request.default_pools {
        let pool: Subnet = text.parse().map_err(CliError::failure)?;
        if !pool.is_ipv6() && u32::from(pool.prefix_len()) > mask {
            return Err(CliError::failure(format!(
                "invalid CIDR: \"{text}\". Subnet size is too small for pool: {mask}"
            )));
        }
        pools.push(pool);
    }
    Ok(InitConfig {
        certs: paths.certs(),
        description: place.description(),
        availability: Option::from(request.availability()).unwrap_or(Availability::Active),
        pools,
        pool_mask_len: u8::try_from(mask).unwrap_or(24),
        data_path_port: port,
        cert_expiry,
        own_ca: match (request.ca_cert_pem.as_str(), request.ca_key_pem.as_str()) {
            ("", "") => None,
            (cert, key) => Some((cert.to_owned(), key.to_owned())),
        },
        avoid: host_routes(),
        autolock: request.autolock,
    })
}
