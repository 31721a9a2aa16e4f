/** The store over MariaDB does what every store must. */
import { describe } from 'vitest';
import { mysqlDatabase } from './databases.js';
import { testConformance } from './sql-conformance.js';

describe('over MariaDB', () => testConformance(mysqlDatabase));
