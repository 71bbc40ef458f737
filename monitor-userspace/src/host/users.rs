//! Users and groups by name, from `/etc/passwd` and `/etc/group` (passwd(5), group(5)). Left out: directories elsewhere (LDAP, SSSD).

use std::fs;

/// A user, as programs run as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: u32,
    /// The user's own group.
    pub group: u32,
    /// All groups that the user is in, the own one too.
    pub groups: Vec<u32>,
}

/// A user of this host; an error says why there is none.
pub fn user(name: &str) -> Result<User, String> {
    let (users, groups) = (read("/etc/passwd")?, read("/etc/group")?);
    find(name, &users, &groups).ok_or_else(|| unknown("user", name, "/etc/passwd", "uid and gid"))
}

/// The number of a group of this host; an error says why there is none.
pub fn group(name: &str) -> Result<u32, String> {
    let groups = read("/etc/group")?;
    let mut found = groups.lines().filter_map(entry);
    let found = found.find(|(own, _, _)| *own == name);
    found
        .map(|(_, id, _)| id)
        .ok_or_else(|| unknown("group", name, "/etc/group", "uid and gid"))
}

fn unknown(what: &str, name: &str, file: &str, instead: &str) -> String {
    format!("there is no {what} `{name}` in {file}; one of another directory is given by {instead}")
}

fn read(path: &str) -> Result<String, String> {
    let text = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Name, number and the fourth field: of a group its members, of a user the group.
fn entry(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let id = fields.nth(1)?.parse().ok()?;
    Some((name, id, fields.next()?))
}

fn find(name: &str, users: &str, groups: &str) -> Option<User> {
    let mut known = users.lines().filter_map(entry);
    let (_, id, group) = known.find(|(own, _, _)| *own == name)?;
    let group = group.parse().ok()?;
    let member = |members: &str| members.split(',').any(|member| member == name);
    let others = groups.lines().filter_map(entry);
    let others = others.filter(|(_, other, members)| member(members) && *other != group);
    let mut groups = vec![group];
    groups.extend(others.map(|(_, id, _)| id));
    Some(User { id, group, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_all_groups() {
        let users = "root:x:0:0:root:/root:/bin/sh\nrubbish\nbad:x:many:1::\nshop:x:1001:50::/home/shop:/bin/sh\n";
        let groups =
            "root:x:0:\nstaff:x:50:\ndocker:x:998:ann,shop\nvideo:x:44:shopper\nown:x:50:shop\n";
        let expected = User {
            id: 1001,
            group: 50,
            groups: vec![50, 998],
        };
        assert_eq!(find("shop", users, groups), Some(expected));
        assert_eq!(find("bad", users, groups), None);
        assert_eq!(find("", users, groups), None);
        assert_eq!(user("root").map(|root| root.id), Ok(0));
        assert!(user("nobody-of-that-name").is_err_and(|why| why.contains("/etc/passwd")));
        assert_eq!(group("root"), Ok(0));
    }
}
