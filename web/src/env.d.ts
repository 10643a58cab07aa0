/** Told by the build: changes with the page that draws diagrams, whose name has no hash. */
declare const __DIAGRAM__: string;
