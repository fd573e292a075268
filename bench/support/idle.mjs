// A process that does nothing: how late it is served is the machine's doing, and nobody else's.
import { delayTasks, serveTasks } from "./tasks.mjs";

serveTasks(delayTasks);
