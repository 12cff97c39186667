use super::rows::{LiveRow, fence_columns, phase_number, status_number};
use crate::{
    PeerId,
    engine::{Ended, Spec, Terms, Wall},
    task::{Fence, TaskId},
};

pub(super) fn spec_crc(seq: i64, spec: &Spec, payload: &str) -> u32 {
    let mut sum = Checksum::default();
    sum.int(seq).bytes(Some(spec.id.as_bytes())).text(Some(&spec.task_type)).text(Some(&spec.model_name));
    sum.int(spec.priority).wall(Some(spec.created_at)).wall(None);
    sum.int(i32::try_from(spec.labels.len()).unwrap_or(i32::MAX));
    spec.labels.iter().for_each(|label| _ = sum.text(Some(label)));
    spec.requires.iter().for_each(|label| _ = sum.text(Some(label)));
    sum.text(spec.session.as_ref()).bytes(spec.pin_to.map(PeerId::to_bytes).as_deref());
    sum.terms(spec.terms).bytes(Some(payload.as_bytes()));
    sum.finish()
}

pub(super) fn live_crc(row: &LiveRow) -> u32 {
    let live = &row.live;
    let mut sum = Checksum::default();
    sum.int(row.seq).bytes(Some(row.id.as_bytes())).text(Some(&row.lane)).int(row.priority);
    sum.int(phase_number(live.phase)).wall(Some(live.ready_at)).wall(live.not_before).int(live.attempt);
    sum.fence(live.fence).text(live.worker.as_ref()).real(live.lease_s).wall(live.lease_until);
    sum.text(live.cancel.as_ref()).fraction(live.progress).text(live.status_message.as_ref());
    sum.text(live.error.as_ref()).wall(Some(live.updated_at)).terms(live.terms);
    sum.finish()
}

pub(super) fn ended_crc(seq: i64, id: TaskId, ended: &Ended, result: Option<&str>) -> u32 {
    let mut sum = Checksum::default();
    sum.int(seq).bytes(Some(id.as_bytes())).int(status_number(ended.status).unwrap_or(-1));
    sum.wall(Some(ended.at)).wall(Some(ended.expires_at)).wall(ended.not_before).int(ended.attempt);
    sum.fence(ended.fence).text(ended.worker.as_ref()).fraction(ended.progress);
    sum.text(ended.status_message.as_ref()).text(ended.error.as_ref()).int(ended.dead);
    sum.bytes(result.map(str::as_bytes));
    sum.finish()
}

/// A checksum over fields: each is fed with its presence and its length, so that no two contents feed the same bytes.
#[derive(Default)]
struct Checksum(crc32fast::Hasher);

impl Checksum {
    fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        self.0.update(&value.into().to_le_bytes());
        self
    }

    fn real(&mut self, value: f64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(bytes) => {
                self.0.update(&(bytes.len() as u64).to_le_bytes());
                self.0.update(bytes);
            }
            None => self.0.update(&u64::MAX.to_le_bytes()),
        }
        self
    }

    fn text(&mut self, value: Option<&String>) -> &mut Self {
        self.bytes(value.map(String::as_bytes))
    }

    fn wall(&mut self, value: Option<Wall>) -> &mut Self {
        self.bytes(value.map(|wall| wall.as_micros().to_le_bytes()).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn fence(&mut self, value: Option<Fence>) -> &mut Self {
        let (epoch, counter) = fence_columns(value);
        self.int(epoch.unwrap_or(-1)).int(counter.unwrap_or(-1))
    }

    fn fraction(&mut self, value: Option<f64>) -> &mut Self {
        self.bytes(value.map(f64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn terms(&mut self, terms: Terms) -> &mut Self {
        self.int(terms.max_attempts).real(terms.backoff_s).real(terms.result_ttl_s)
    }

    fn finish(self) -> u32 {
        self.0.finalize()
    }
}
