//! Numbers of the nf_tables protocol (`nf_tables.h`, `nfnetlink.h`), as far as we use them.

use swarmnet_dataplane::nft::Family;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

/// Message types, without the subsystem.
pub(super) mod msg {
    pub(in crate::nft) const NEWTABLE: u16 = 0;
    pub(in crate::nft) const GETTABLE: u16 = 1;
    pub(in crate::nft) const DELTABLE: u16 = 2;
    pub(in crate::nft) const NEWCHAIN: u16 = 3;
    pub(in crate::nft) const GETCHAIN: u16 = 4;
    pub(in crate::nft) const DELCHAIN: u16 = 5;
    pub(in crate::nft) const NEWRULE: u16 = 6;
    pub(in crate::nft) const GETRULE: u16 = 7;
    pub(in crate::nft) const DELRULE: u16 = 8;
    pub(in crate::nft) const NEWSET: u16 = 9;
    pub(in crate::nft) const GETSET: u16 = 10;
    pub(in crate::nft) const DELSET: u16 = 11;
    pub(in crate::nft) const NEWSETELEM: u16 = 12;
    pub(in crate::nft) const GETSETELEM: u16 = 13;
    pub(in crate::nft) const DELSETELEM: u16 = 14;
    pub(in crate::nft) const NEWGEN: u16 = 15;
    pub(in crate::nft) const GETGEN: u16 = 16;
    pub(in crate::nft) const NEWOBJ: u16 = 18;
    pub(in crate::nft) const GETOBJ: u16 = 19;
    pub(in crate::nft) const DELOBJ: u16 = 20;
}

/// `NFNL_MSG_BATCH_BEGIN`, `…_END`.
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
pub(super) const BATCH_GENID: u16 = 1;

/// The full message type.
pub(super) const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// The message of a full type, when it is one of nf_tables.
pub(super) const fn message_of(kind: u16) -> Option<u16> {
    if kind >> 8 == SUBSYSTEM { Some(kind & 0xff) } else { None }
}

/// `NFPROTO_*`.
pub(super) const fn family(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Netdev => 5,
        Family::Ip6 => 10,
    }
}

/// `struct nfgenmsg`; the resource id of a batch's ends is the subsystem.
pub(super) const fn nfgenmsg(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

pub(super) const fn nfgenmsg_batch() -> [u8; 4] {
    [0, 0, 0, SUBSYSTEM as u8]
}

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEM: u16 = 1;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE`, `…_CHAIN`.
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;

pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const FLAGS: u16 = 2;
}

pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const TYPE: u16 = 7;
    pub(in crate::nft) const HOOK_NUM: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::nft) const HOOK_DEV: u16 = 3;
    pub(in crate::nft) const HOOK_DEVS: u16 = 4;
    /// `NFTA_DEVICE_NAME`.
    pub(in crate::nft) const DEVICE_NAME: u16 = 1;
}

pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const HANDLE: u16 = 3;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const USERDATA: u16 = 7;
    /// Attribute types inside the user data, which is one byte of type and one of length each: libnftnl's comment, and ours.
    pub(in crate::nft) const UDATA_COMMENT: u8 = 0;
    pub(in crate::nft) const UDATA_ID: u8 = 0x53;
}

pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LEN: u16 = 5;
    pub(in crate::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::nft) const DATA_LEN: u16 = 7;
    pub(in crate::nft) const DESC: u16 = 9;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const USERDATA: u16 = 13;
    /// Linux 6.16.
    pub(in crate::nft) const COUNT: u16 = 20;
    pub(in crate::nft) const FLAG_ANONYMOUS: u32 = 1;
    pub(in crate::nft) const FLAG_INTERVAL: u32 = 4;
    pub(in crate::nft) const FLAG_MAP: u32 = 8;
    pub(in crate::nft) const FLAG_CONCAT: u32 = 0x80;
    pub(in crate::nft) const DESC_CONCAT: u16 = 2;
    pub(in crate::nft) const FIELD_LEN: u16 = 1;
    /// `NFT_DATA_VERDICT` as a data type.
    pub(in crate::nft) const TYPE_VERDICT: u32 = 0xffff_ff00;
    /// Ours: the field types of key and data, so that an observed definition compares equal.
    pub(in crate::nft) const UDATA_FIELDS: u8 = 0x53;
}

pub(super) mod elem {
    pub(in crate::nft) const LIST_TABLE: u16 = 1;
    pub(in crate::nft) const LIST_SET: u16 = 2;
    pub(in crate::nft) const LIST_ELEMENTS: u16 = 3;
    pub(in crate::nft) const KEY: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_END: u16 = 10;
    pub(in crate::nft) const FLAG_INTERVAL_END: u32 = 1;
}

pub(super) mod object {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const TYPE: u16 = 3;
    pub(in crate::nft) const DATA: u16 = 4;
    pub(in crate::nft) const TYPE_COUNTER: u32 = 1;
    pub(in crate::nft) const COUNTER_BYTES: u16 = 1;
    pub(in crate::nft) const COUNTER_PACKETS: u16 = 2;
}

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO`, `NFT_RETURN`.
pub(super) mod verdict {
    pub(in crate::nft) const DROP: i32 = 0;
    pub(in crate::nft) const ACCEPT: i32 = 1;
    pub(in crate::nft) const JUMP: i32 = -3;
    pub(in crate::nft) const GOTO: i32 = -4;
    pub(in crate::nft) const RETURN: i32 = -5;
}
