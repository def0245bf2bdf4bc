//! `--user`: `user[:group]`, names or numbers, as `/etc/passwd` and `/etc/group` know them.
//!
//! Docker's rules: a user that is known brings its group and those it is listed in; a group that is named comes alone. A number that
//! nobody is listed under is its own group, where Docker would take root's.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use swarmnet_kernel::workload::Credentials;

/// The user or the group is not known here; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {user}: no matching entries in passwd file")]
    User { user: String },
    #[error("unable to find group {group}: no matching entries in group file")]
    Group { group: String },
}

/// What the program runs as.
///
/// # Errors
/// See [`UserError`].
pub fn find(text: &str) -> Result<Credentials, UserError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let number = user.parse().ok();
    let entry = match number {
        Some(uid) => User::from_uid(Uid::from_raw(uid)),
        None => User::from_name(user),
    };
    let entry = entry.ok().flatten();
    let (Some(uid), own) = (number.or(entry.as_ref().map(|e| e.uid.as_raw())), entry) else {
        return Err(UserError::User { user: user.to_owned() });
    };
    if let Some(group) = group {
        let gid = find_group(group)?;
        return Ok(Credentials { uid, gid, groups: vec![gid] });
    }
    let Some(own) = own else { return Ok(Credentials { uid, gid: uid, groups: vec![uid] }) };
    let gid = own.gid.as_raw();
    let listed = CString::new(own.name).ok().and_then(|name| getgrouplist(&name, own.gid).ok());
    let groups = listed.map_or_else(|| vec![gid], |all| all.into_iter().map(Gid::as_raw).collect());
    Ok(Credentials { uid, gid, groups })
}

fn find_group(group: &str) -> Result<u32, UserError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let found = Group::from_name(group).ok().flatten();
    found.map(|g| g.gid.as_raw()).ok_or_else(|| UserError::Group { group: group.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    fn as_id_says(user: &str, flag: &str) -> BTreeSet<u32> {
        let out = Command::new("id").args([flag, user]).output().expect("`id` is there");
        let text = String::from_utf8(out.stdout).expect("text");
        text.split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }

    #[test]
    fn every_user_of_the_machine_gets_the_groups_that_id_shows() {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("Linux");
        let names: Vec<&str> = passwd.lines().filter_map(|line| line.split(':').next()).collect();
        assert!(names.contains(&"root"), "{names:?}");
        for name in names {
            let found = find(name).expect("it is listed");
            let groups: BTreeSet<u32> = found.groups.iter().copied().collect();
            assert_eq!(groups, as_id_says(name, "-G"), "{name}");
            assert_eq!(BTreeSet::from([found.gid]), as_id_says(name, "-g"), "{name}");
            assert_eq!(find(&found.uid.to_string()).expect("by number").uid, found.uid);
        }
    }

    #[test]
    fn a_named_group_comes_alone_and_what_is_unknown_is_named() {
        let found = find("root:4242").expect("a number needs no entry");
        assert_eq!((found.uid, found.gid, found.groups), (0, 4242, vec![4242]));
        let found = find("4242").expect("likewise");
        assert_eq!((found.uid, found.gid, found.groups), (4242, 4242, vec![4242]));
        let err = find("nobody-here").expect_err("unknown").to_string();
        assert_eq!(err, "unable to find user nobody-here: no matching entries in passwd file");
        let err = find("root:none-such").expect_err("unknown").to_string();
        assert_eq!(err, "unable to find group none-such: no matching entries in group file");
    }
}
