BEGIN TRANSACTION;
CREATE TABLE inbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL, device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, meta TEXT NOT NULL, checksum BLOB NOT NULL,
    source_digest BLOB, source_size INTEGER, payload BLOB,
    UNIQUE (device, epoch, number, kind)
);
INSERT INTO "inbox" VALUES(1,1,'packet','dddddddddddddddddddddddddddddddddddddddd',1,1,X'F64551FCD6F07823CB87971CFB91446425DA18286B3AB1EF935E0CBD7A69F68A',2,'{}',X'9B7518E47E9BF6E1D8CD18DBC21D5A65',NULL,NULL,X'7031');
INSERT INTO "inbox" VALUES(2,2,'packet','dddddddddddddddddddddddddddddddddddddddd',1,2,X'3946CA64FF78D93CA61090A437CBB6B3D2CA0D488F5F9CCF3059608368B27693',2,'{}',X'EA6F4E5F3E50904F594E73E90C7D783D',NULL,NULL,X'7032');
INSERT INTO "inbox" VALUES(3,6,'gap','',5,6,X'E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855',0,'{"first":4,"last":6,"count":3,"reason":"x"}',X'5A1218CF315F986A7156AE9314058449',NULL,NULL,X'');
CREATE TABLE originals (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, image BLOB);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY,
    device TEXT NOT NULL, epoch INTEGER NOT NULL, source_key BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL, size INTEGER NOT NULL, facts TEXT NOT NULL, held_out INTEGER NOT NULL,
    checksum BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', reason TEXT,
    kept INTEGER NOT NULL DEFAULT 1, image BLOB
);
INSERT INTO "outbox" VALUES(0,'cccccccccccccccccccccccccccccccccccccccc',2054414615918780871,X'6B657930',X'C7BF01BCC110BF8645E88F194196CFD59D13026CB124CFB4A08A6570B592E912',40,'{"name":"frame0","width":64,"height":48,"labelled":true,"validation":false,"boxes":[[-1.5,2.0,30.25,40.0,"car"]]}',0,X'11E90A303F2525A56B0EE36E852BF1D7','acknowledged',NULL,0,NULL);
INSERT INTO "outbox" VALUES(1,'cccccccccccccccccccccccccccccccccccccccc',2054414615918780871,X'6B657931',X'7C63EB4042E809672BAA09D8B86B0FDED5B808AF9FA6EB54D4B4B567C2B836E8',40,'{"name":"frame1","width":64,"height":48,"labelled":true,"validation":true,"boxes":[[-1.5,2.0,30.25,40.0,"car"]]}',1,X'D6AE1647F0A0D19DF4C80AF286E37D68','acknowledged',NULL,1,X'EBAF5CCD6F37291D34BADE1BBFF539E76C47AFB293C5D53914D492E0BDC240453728C2C3AA5D29EA');
INSERT INTO "outbox" VALUES(2,'cccccccccccccccccccccccccccccccccccccccc',2054414615918780871,X'6B657932',X'4B5C12293E8D0A63EEEEDEB69F44EE86B30A9FE0A26A62F56492B380A6B8A948',40,'{"name":"frame2","width":64,"height":48,"labelled":true,"validation":false,"boxes":[[-1.5,2.0,30.25,40.0,"car"]]}',0,X'EB3D682702CBA1B05BAD9A16DF87BE5E','refused','no image',0,NULL);
INSERT INTO "outbox" VALUES(3,'cccccccccccccccccccccccccccccccccccccccc',2054414615918780871,X'6B657933',X'8A2444638836CC37D234A50A597549559976208EECAE376D03102E34B1B4BC8A',40,'{"name":"frame3","width":64,"height":48,"labelled":true,"validation":false,"boxes":[[-1.5,2.0,30.25,40.0,"car"]]}',0,X'D68AB74AF7BE0AB3C3877AECB4722E95','waiting',NULL,1,X'0A7FDDC22E37EAF05B744459F6129FD1C97CB501AAF497ECB6D5D9B1CFADCBF5C16F4E2CA3F6F0D5');
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "state" VALUES('epoch',2054414615918780871);
INSERT INTO "state" VALUES('log_id',5);
INSERT INTO "state" VALUES('position',6);
CREATE INDEX outbox_waiting ON outbox (number) WHERE state = 'waiting';
CREATE INDEX outbox_refused ON outbox (number) WHERE state = 'refused';
CREATE INDEX outbox_held_out ON outbox (number) WHERE held_out = 1;
CREATE INDEX outbox_digest ON outbox (digest);
CREATE INDEX inbox_kind ON inbox (kind, sequence);
CREATE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_source ON inbox (sequence) WHERE source_digest IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('inbox',3);
COMMIT;
PRAGMA application_id = 1380535877;
PRAGMA user_version = 1;
