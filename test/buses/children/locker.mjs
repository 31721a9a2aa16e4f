// Holds the lock of a database as a program of its own would (a backup, a shell), until it is told to let go.
import Database from 'libsql';

const [file] = process.argv.slice(2);
const database = new Database(file);
database.exec('BEGIN EXCLUSIVE');
process.once('message', () => {
  database.exec('ROLLBACK');
  process.exit();
});
process.send('locked');
