internal import GRDB

/// The database's schema as a list of migrations: append-only, in SQL, never in terms of values of
/// the model, which change while a migration must not.
enum Schema {
  static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1 core") { database in
      try database.execute(
        sql: """
          CREATE TABLE store (
            id TEXT NOT NULL PRIMARY KEY,
            generation INTEGER NOT NULL
          ) STRICT;
          INSERT INTO store (id, generation) VALUES (lower(hex(randomblob(4))), 0);

          CREATE TABLE vnf_package (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            document TEXT NOT NULL
          ) STRICT;

          CREATE TABLE vnf_instance (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            UNIQUE (tenant_id, name)
          ) STRICT;

          CREATE TABLE network (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            host_id TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            UNIQUE (tenant_id, name)
          ) STRICT;

          -- Outlives its instance until the host has let go of its workload.
          CREATE TABLE vnfc (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            host_id TEXT NOT NULL,
            vnf_instance_id TEXT NOT NULL,
            incarnation INTEGER NOT NULL,
            document TEXT NOT NULL
          ) STRICT;

          CREATE TABLE port (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            host_id TEXT NOT NULL,
            vnfc_id TEXT NOT NULL REFERENCES vnfc (id) ON DELETE CASCADE,
            network_id TEXT NOT NULL,
            mac TEXT NOT NULL,
            UNIQUE (network_id, mac)
          ) STRICT;
          CREATE INDEX port_vnfc ON port (vnfc_id);

          CREATE TABLE port_address (
            port_id TEXT NOT NULL REFERENCES port (id) ON DELETE CASCADE,
            network_id TEXT NOT NULL,
            address TEXT NOT NULL,
            PRIMARY KEY (network_id, address)
          ) STRICT, WITHOUT ROWID;
          CREATE INDEX port_address_port ON port_address (port_id);

          CREATE TABLE vnf_lcm_op_occ (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            tenant_id TEXT NOT NULL,
            vnf_instance_id TEXT NOT NULL,
            is_open INTEGER NOT NULL,
            document TEXT NOT NULL
          ) STRICT;
          CREATE UNIQUE INDEX one_open_operation
            ON vnf_lcm_op_occ (vnf_instance_id) WHERE is_open;
          CREATE INDEX operation_of_instance ON vnf_lcm_op_occ (vnf_instance_id, sequence);

          CREATE TABLE outbox (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            document TEXT NOT NULL
          ) STRICT;
          """)
    }
    migrator.registerMigration("2 modifiable information") { database in
      try database.execute(
        sql: """
          UPDATE vnf_instance SET document = json_set(document, '$.info',
            json('{"configurableProperties":{},"metadata":{},"extensions":{}}'));
          UPDATE vnf_package SET document = json_set(document, '$.content.descriptor.modifiable',
            json('{"configurableProperties":{},"metadata":{},"extensions":{}}'))
            WHERE json_type(document, '$.content.descriptor') = 'object';
          """)
    }
    migrator.registerMigration("3 image sizes") { database in
      try database.execute(
        sql: """
          UPDATE vnf_package SET document = json_set(document, '$.content.imageSizes', json('{}'))
            WHERE json_type(document, '$.content') = 'object';
          """)
    }
    return migrator
  }
}
