//! Task groups.

use apportion_proto::v1;

use super::{ConvertError, enums, from_ref, id, optional};
use crate::{GroupInfo, limits};

impl From<GroupInfo> for v1::GroupInfo {
    fn from(group: GroupInfo) -> Self {
        Self {
            group_id: group.group_id.to_string(),
            part: v1::GroupPart::from(group.part) as i32,
            place: group.place,
            members: group.members,
            network: group.network.map(|network| (*network).into()),
        }
    }
}

/// Refuses more members than [`limits::GROUP_TASKS_MAX`], a place that is none of theirs, and a network that is none.
impl TryFrom<v1::GroupInfo> for GroupInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::GroupInfo) -> Result<Self, ConvertError> {
        let most = limits::GROUP_TASKS_MAX;
        if wire.members as usize > most {
            let what = format_args!("{} tasks are more than the {most} of a task group", wire.members);
            return Err(ConvertError::new("members", what));
        }
        if wire.place >= wire.members {
            let what =
                format_args!("is {}, and there are {} members, counted from 0", wire.place, wire.members);
            return Err(ConvertError::new("place", what));
        }
        Ok(Self {
            group_id: id("group_id", &wire.group_id)?,
            part: enums::part("part", wire.part)?,
            place: wire.place,
            members: wire.members,
            network: optional("network", wire.network)?.map(Box::new),
        })
    }
}

from_ref!(GroupInfo => v1::GroupInfo);
