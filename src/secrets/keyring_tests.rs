//! What is sealed opens in its place and nowhere else.

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn root() -> Unlocked {
    Unlocked::throwaway().unwrap()
}

/// Where a secret stands, and what opens it.
struct Kept {
    root: Unlocked,
    environment: Name,
    keys: BTreeMap<u32, Key>,
    wrapped: BTreeMap<u32, DataKeyRow>,
    row: SecretRow,
}

impl Kept {
    fn new(root: &Unlocked, environment: &str, row: (i64, &str, i64, u32), value: &str) -> Self {
        let (id, called, version, generation) = row;
        let environment = name(environment);
        let keys: BTreeMap<u32, Key> = (1..=2).map(|generation| (generation, Key::random().unwrap())).collect();
        let wrap =
            |(generation, key): (&u32, &Key)| (*generation, wrap_key(root, &environment, *generation, key).unwrap());
        let wrapped = keys.iter().map(wrap).collect();
        let at = record_place(root.install(), &environment, id, called, version, generation);
        let record = envelope::seal(&keys[&generation], generation, &at, value.as_bytes()).unwrap();
        let at = crate::domain::Timestamp::from_millis(0);
        let row = SecretRow { id, name: called.into(), version, generation, record, created_at: at, updated_at: at };
        Self { root: root.clone(), environment, keys, wrapped, row }
    }

    fn open(&self, row: &SecretRow) -> Option<String> {
        let opened = open_record(&self.root, &self.environment, &self.keys, row);
        opened.map(|value| value.expose_secret().to_owned())
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

#[test]
fn of_a_thousand_mutations_and_swaps_none_opens() {
    let (root, elsewhere, mut dice) = (root(), self::root(), Dice(7));
    let kept = Kept::new(&root, "production", (3, "TOKEN", 5, 1), "a value that is worth something");
    assert_eq!(kept.open(&kept.row).as_deref(), Some("a value that is worth something"));
    let others = [
        Kept::new(&root, "production", (4, "OTHER", 5, 1), "another"),
        Kept::new(&root, "development", (3, "TOKEN", 5, 1), "a value that is worth something"),
        Kept::new(&elsewhere, "production", (3, "TOKEN", 5, 1), "a value that is worth something"),
    ];
    let mut tried = 0;
    let mut refuse = |kept: &Kept, row: &SecretRow, what: &str| {
        assert_eq!(kept.open(row), None, "{what}");
        tried += 1;
    };
    for bit in 0..kept.row.record.len() * 8 {
        let mut row = kept.row.clone();
        row.record[bit / 8] ^= 1 << (bit % 8);
        refuse(&kept, &row, &format!("bit {bit} is another"));
    }
    for length in 0..kept.row.record.len() {
        let mut row = kept.row.clone();
        row.record.truncate(length);
        refuse(&kept, &row, &format!("cut to {length} bytes"));
    }
    for _ in 0..200 {
        let mut row = kept.row.clone();
        match dice.below(4) {
            0 => row.record.push(dice.below(256) as u8),
            1 => row.record.insert(dice.below(row.record.len()), dice.below(256) as u8),
            2 => drop(row.record.remove(dice.below(row.record.len()))),
            _ => {
                let (one, other) = (dice.below(row.record.len()), dice.below(row.record.len()));
                row.record.swap(one, other);
            }
        }
        if row.record != kept.row.record {
            refuse(&kept, &row, "bytes were added, taken or swapped");
        }
    }
    for n in 1..=50_i64 {
        refuse(&kept, &SecretRow { id: kept.row.id + n, ..kept.row.clone() }, "another record");
        refuse(&kept, &SecretRow { name: format!("TOKEN{n}"), ..kept.row.clone() }, "another name");
        refuse(&kept, &SecretRow { version: kept.row.version + n, ..kept.row.clone() }, "another version");
        refuse(&kept, &SecretRow { generation: 1 + n as u32, ..kept.row.clone() }, "another generation");
        let mut relabelled = kept.row.clone();
        relabelled.generation = 2;
        relabelled.record[2..6].copy_from_slice(&2_u32.to_be_bytes());
        refuse(&kept, &relabelled, "the generation in the record too");
    }
    for other in &others {
        refuse(&kept, &other.row, "a record of another place");
        refuse(&kept, &SecretRow { record: other.row.record.clone(), ..kept.row.clone() }, "its bytes in this place");
        refuse(other, &SecretRow { record: kept.row.record.clone(), ..other.row.clone() }, "these bytes there");
        // Even with the very key at hand, the place is another one.
        let with_key = Kept {
            keys: kept.keys.clone(),
            row: kept.row.clone(),
            wrapped: BTreeMap::new(),
            root: other.root.clone(),
            environment: other.environment.clone(),
        };
        if other.row.name == kept.row.name {
            refuse(&with_key, &kept.row, "another environment or home with the same key");
        }
    }
    let swapped = Kept {
        keys: BTreeMap::from([(1, kept.keys[&2].clone()), (2, kept.keys[&1].clone())]),
        row: kept.row.clone(),
        wrapped: BTreeMap::new(),
        root: root.clone(),
        environment: kept.environment.clone(),
    };
    refuse(&swapped, &kept.row, "the data keys were swapped");
    assert!(tried >= 1000, "only {tried}");
}

#[test]
fn a_data_key_opens_under_its_home_environment_and_generation_only() {
    let (root, elsewhere) = (root(), self::root());
    let kept = Kept::new(&root, "production", (1, "TOKEN", 1, 1), "value");
    let row = &kept.wrapped[&1];
    assert_eq!(unwrap_key(&root, &kept.environment, row).unwrap().bytes(), kept.keys[&1].bytes());
    let refused = |root: &Unlocked, environment: &str, row: &DataKeyRow| {
        let error = unwrap_key(root, &name(environment), row).unwrap_err();
        assert_eq!(error.report().details.unwrap()["exit_code"], 78);
    };
    refused(&elsewhere, "production", row);
    refused(&root, "development", row);
    refused(&root, "production", &DataKeyRow { generation: 2, ..row.clone() });
    refused(&root, "production", &DataKeyRow { kek_id: "another".into(), ..row.clone() });
    refused(&root, "production", &DataKeyRow { wrapped: kept.wrapped[&2].wrapped.clone(), ..row.clone() });
    for bit in 0..row.wrapped.len() * 8 {
        let mut changed = row.clone();
        changed.wrapped[bit / 8] ^= 1 << (bit % 8);
        refused(&root, "production", &changed);
    }
}
