//! Outputs that stay on this host: a file of it, or a command's standard input.

use config::{Output, Owner, Service, THIS_HOST, To};
use credential::SecretBytes;
use distribute::{Command, File, Here};
use futures_util::future::join_all;

use super::{Giver, Prepared, Ready};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    run::{
        World,
        push::{Item, Place, deliver_to, not_ready},
    },
};

/// Each by itself, all at once.
pub(super) async fn bring(giver: &Giver, prepared: Vec<Prepared>) {
    let each = prepared.into_iter().filter_map(|(index, ready)| {
        let output = giver.service.outputs.get(index)?;
        Some(one(giver, index, output, ready))
    });
    join_all(each).await;
}

async fn one(giver: &Giver, index: usize, output: &Output, ready: Result<Ready, Failure>) {
    let (world, service) = (&giver.world, &giver.service);
    let uid = match world.uid(service) {
        Ok(uid) => uid,
        Err(failure) => {
            let target = Place::Command(output.name.clone()).target("");
            return world.ledger.end(giver.index, target, Ending::failed(failure));
        }
    };
    let (place, path, mode) = match &output.to {
        To::Nodes { .. } => return,
        To::Here { mode, .. } => {
            let path = service.output_path(output, uid).unwrap_or_default();
            (Place::Here, path, *mode)
        }
        To::Command { .. } => (Place::Command(output.name.clone()), output.name.clone(), 0o400),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            return world
                .ledger
                .end(giver.index, place.target(&path), not_ready(&failure));
        }
    };
    let item = Item::of_output(giver, index, path, mode, ready);
    match &output.to {
        To::Command {
            program,
            arguments,
            deadline,
        } => {
            let command = Command {
                name: output.name.clone(),
                program: program.clone(),
                arguments: service.arguments(arguments, uid),
                deadline: *deadline,
            };
            deliver_to(world, &command, &place, vec![item]).await;
        }
        To::Here { owner, .. } => match owner_uid(owner.as_ref()).await {
            Ok(owner) => {
                let limits = world.ssh_limits;
                deliver_to(world, &Here { owner, limits }, &place, vec![item]).await;
            }
            Err(failure) => world
                .ledger
                .end(giver.index, item.target(&place), Ending::failed(failure)),
        },
        To::Nodes { .. } => {}
    }
}

/// The number of a user of this host.
pub(crate) async fn owner_uid(owner: Option<&Owner>) -> Result<Option<u32>, Failure> {
    let name = match owner {
        None => return Ok(None),
        Some(Owner::Uid(uid)) => return Ok(Some(*uid)),
        Some(Owner::Name(name)) => name.clone(),
    };
    let wanted = name.clone();
    let looked = tokio::task::spawn_blocking(move || nix::unistd::User::from_name(&wanted)).await;
    let text = match looked {
        Ok(Ok(Some(user))) => return Ok(Some(user.uid.as_raw())),
        Ok(Ok(None)) => format!("there is no user {name} on this host to give the file to"),
        Ok(Err(error)) => format!("the user {name} could not be looked up ({error})"),
        Err(error) => format!("the user {name} could not be looked up ({error})"),
    };
    Err(Failure::text(
        Stage::Configuration,
        "no-such-user",
        "this host",
        text,
    ))
}

/// A file of this host with its output and the owner it is to have.
pub(crate) type LocalFile<'s> = (&'s Output, Option<&'s Owner>, File);

/// The files a service has on this host, each with its output and owner; for those who look or take back.
pub(crate) fn local_files<'s>(world: &World, service: &'s Service) -> Result<Vec<LocalFile<'s>>, Failure> {
    let mut files = Vec::new();
    for (index, output) in service.outputs.iter().enumerate() {
        if let To::Here { mode, owner, .. } = &output.to
            && !service.yields_here(index)
        {
            let path = service
                .output_path(output, world.uid(service)?)
                .unwrap_or_default();
            let content = SecretBytes::new(Vec::new());
            files.push((
                output,
                owner.as_ref(),
                File {
                    path,
                    content,
                    mode: *mode,
                },
            ));
        }
    }
    Ok(files)
}

/// Under which place the state has what was brought to this host.
pub(crate) const HERE: &str = THIS_HOST;
